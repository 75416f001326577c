"""When rounds may begin: a line of cron, in this machine's own time."""

from datetime import datetime

from cronsim import CronSim, CronSimError

from teachers.errors import ConfigError

_FIELDS = 5
_HINT = 'Five fields: minute, hour, day, month, weekday. "0 2 * * *" is every night at two.'


def next_time(line: str, after: float) -> float:
    """The first time of a schedule after another, both in seconds since 1970.

    Args:
        line: five fields as crontab(5) has them; `@daily` and the like are no fields.

    Raises:
        ConfigError: it is none, or its time never comes.
    """
    # Without a zone: an hour that the clocks leave out or repeat is the zone's affair, below.
    local = datetime.fromtimestamp(after)
    try:
        if len(line.split()) != _FIELDS:  # a sixth would be seconds
            raise CronSimError("It has other than five fields")
        found = next(CronSim(line, local))
    except CronSimError as wrong:
        raise ConfigError(f"{line!r} is no schedule: {wrong}.", hint=_HINT) from wrong
    except StopIteration:
        raise ConfigError(f"The time of {line!r} never comes.", hint=_HINT) from None
    return found.timestamp()
