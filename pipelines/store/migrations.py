"""The schema, as numbered steps. A step that has been released is never edited: add another."""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS = Migrations("preceptor")

# Times are seconds since 1970. Columns that hold JSON say so in their name or are called
# `report`, `request`, `entry`, `job`, `recipe` or `content`.


@MIGRATIONS()
def m001_rounds(db: Database) -> None:
    _run(
        db,
        """
        create table rounds (
            id text primary key, name text not null, number integer not null,
            recipe text not null, state text not null
                check (state in ('running', 'done', 'stopped', 'failed', 'interrupted')),
            started_at real not null, ended_at real, note text
        ) strict""",
        """
        create table stages (
            round_id text not null references rounds (id), name text not null,
            state text not null check (state in ('running', 'done')),
            started_at real not null, ended_at real, report text,
            primary key (round_id, name)
        ) strict""",
    )


@MIGRATIONS()
def m002_prompts_and_answers(db: Database) -> None:
    _run(
        db,
        """
        create table prompts (
            id text primary key, task text not null, question text not null, reference text,
            verifier text not null, entry text not null, source text not null,
            split text not null check (split in ('train', 'held_out')), created_at real not null
        ) strict""",
        "create index prompts_by_task on prompts (task, split)",
        """
        create table round_prompts (
            round_id text not null references rounds (id), position integer not null,
            prompt_id text not null references prompts (id),
            primary key (round_id, prompt_id)
        ) strict, without rowid""",
        """
        create table calls (
            id text not null, attempt integer not null,
            round_id text not null, prompt_id text not null, purpose text not null,
            weights text not null, request text not null,
            state text not null check (state in ('sent', 'done', 'failed', 'uncertain')),
            owner text not null, sent_at real not null, ended_at real,
            prompt_tokens integer, completion_tokens integer, error text,
            primary key (id, attempt)
        ) strict""",
        "create index calls_in_flight on calls (state) where state in ('sent', 'uncertain')",
        "create index calls_by_prompt on calls (prompt_id)",
        """
        create table samples (
            id text primary key, call_id text not null, prompt_id text not null,
            position integer not null, text text not null, thinking text,
            finish_reason text not null, tokens integer, created_at real not null,
            unique (call_id, position)
        ) strict""",
        "create index samples_by_prompt on samples (prompt_id)",
        """
        create table verdicts (
            id text primary key, sample_id text not null references samples (id),
            verifier text not null, parser text not null, state text not null
                check (state in ('verified', 'refuted', 'unparsed', 'timeout',
                                 'not_applicable', 'error')),
            answer text, reason text not null, created_at real not null
        ) strict""",
        "create index verdicts_by_sample on verdicts (sample_id)",
    )


@MIGRATIONS()
def m003_datasets(db: Database) -> None:
    _run(
        db,
        """
        create table datasets (
            id text primary key, round_id text not null references rounds (id), kind text not null,
            rows integer not null, path text not null, sha256 text not null,
            created_at real not null
        ) strict""",
        """
        create table dataset_rows (
            dataset_id text not null references datasets (id), position integer not null,
            sample_id text not null references samples (id),
            primary key (dataset_id, position)
        ) strict, without rowid""",
        "create index datasets_of_sample on dataset_rows (sample_id)",
        """
        create table rejections (
            round_id text not null references rounds (id),
            sample_id text not null references samples (id),
            reason text not null, detail text,
            primary key (round_id, sample_id)
        ) strict, without rowid""",
    )


@MIGRATIONS()
def m004_training(db: Database) -> None:
    _run(
        db,
        """
        create table training_runs (
            id text primary key, round_id text not null references rounds (id),
            dataset_id text not null references datasets (id), job text not null,
            folder text not null, state text not null
                check (state in ('running', 'done', 'failed')),
            started_at real not null, ended_at real, peak_bytes integer, error text
        ) strict""",
        """
        create table metrics (
            training_run_id text not null references training_runs (id),
            step integer not null, name text not null, value real not null,
            primary key (training_run_id, step, name)
        ) strict, without rowid""",
        """
        create table checkpoints (
            id text primary key, training_run_id text not null references training_runs (id),
            step integer not null, adapter_path text not null, adapter_sha256 text not null,
            merged_path text not null, weights text not null, created_at real not null
        ) strict""",
    )


@MIGRATIONS()
def m005_gates(db: Database) -> None:
    _run(
        db,
        """
        create table evals (
            id text primary key, round_id text not null references rounds (id),
            weights text not null, checkpoint_id text references checkpoints (id),
            prompting text not null, items integer not null, strict real, lenient real,
            created_at real not null
        ) strict""",
        """
        create table eval_items (
            eval_id text not null references evals (id),
            prompt_id text not null references prompts (id),
            sample_id text not null references samples (id),
            strict text not null, lenient text not null,
            primary key (eval_id, prompt_id)
        ) strict, without rowid""",
        """
        create table promotions (
            id text primary key, round_id text not null references rounds (id),
            checkpoint_id text not null references checkpoints (id), incumbent text,
            decision text not null check (decision in ('promoted', 'kept')),
            reason text not null, report text not null, created_at real not null
        ) strict""",
        """
        create table alias_moves (
            seq integer primary key, name text not null,
            checkpoint_id text references checkpoints (id),
            why text not null, moved_at real not null
        ) strict""",
        "create index moves_of_alias on alias_moves (name, seq)",
        """
        create view aliases as
            select name, checkpoint_id, why, moved_at from alias_moves
            where seq in (select max(seq) from alias_moves group by name)""",
    )


@MIGRATIONS()
def m006_constitutions(db: Database) -> None:
    _run(
        db,
        """
        create table constitutions (
            id text primary key, name text not null, content text not null, created_at real not null
        ) strict""",
        "create index constitutions_by_name on constitutions (name)",
        # A version that comes back is committed again, and has one row above all the same.
        """
        create table constitution_commits (
            seq integer primary key, name text not null,
            constitution_id text not null references constitutions (id),
            parent text references constitutions (id),
            author text not null, message text not null, committed_at real not null
        ) strict""",
        "create index commits_of_constitution on constitution_commits (name, seq)",
    )


@MIGRATIONS()
def m007_judgements(db: Database) -> None:
    _run(
        db,
        # JSON: the likeliest first tokens of a verdict, from which it can be read again.
        "alter table samples add column first_token text",
        """
        create table judges (
            id text primary key, kind text not null check (kind in ('compare', 'score')),
            weights text not null, spec text not null, place text not null,
            created_at real not null
        ) strict""",
        "create table principles (id text primary key, text text not null) strict",
        """
        create table comparisons (
            id text primary key, prompt_id text, conversation text not null,
            first text not null, second text not null, first_sample text, second_sample text,
            source text not null check (source in ('round', 'gate', 'case', 'gold')),
            created_at real not null
        ) strict""",
        "create index comparisons_by_prompt on comparisons (prompt_id)",
        """
        create table judgements (
            id text primary key, comparison_id text not null references comparisons (id),
            principle_id text not null references principles (id),
            judge_id text not null references judges (id),
            "order" text not null check ("order" in ('forward', 'backward')),
            state text not null check (state in ('read', 'unparsed', 'refused', 'error')),
            value real, outside real, call_id text, created_at real not null
        ) strict""",
        "create index judgements_by_comparison on judgements (comparison_id, judge_id)",
        """
        create table scores (
            id text primary key, answer_id text not null, sample_id text,
            principle_id text not null references principles (id),
            judge_id text not null references judges (id),
            state text not null check (state in ('read', 'unparsed', 'refused', 'error')),
            value real, outside real, call_id text, created_at real not null
        ) strict""",
        "create index scores_by_answer on scores (answer_id, judge_id)",
        """
        create table certificates (
            id text primary key, judge_id text not null references judges (id),
            principle_id text not null references principles (id), gold text not null,
            passed integer not null, figures text not null, created_at real not null
        ) strict""",
        # What trained a judge may not certify it.
        """
        create table seen_by_judges (
            weights text not null, unordered text not null, primary key (weights, unordered)
        ) strict, without rowid""",
        """
        create table footings (
            weights text not null, words text not null, rung text not null,
            thinks integer not null, notes text not null, created_at real not null,
            primary key (weights, words)
        ) strict""",
    )


@MIGRATIONS()
def m008_labels(db: Database) -> None:
    _run(
        db,
        # No principle: which answer is better, all things considered.
        """
        create table labels (
            id text primary key, comparison_id text not null references comparisons (id),
            annotator text not null, principle_id text references principles (id),
            choice text not null check (choice in ('first', 'second', 'tie', 'skip', 'both_bad')),
            shown text not null check (shown in ('forward', 'backward')),
            seconds real not null, note text not null, ranking_id text, created_at real not null
        ) strict""",
        "create index labels_by_comparison on labels (comparison_id, principle_id)",
    )


@MIGRATIONS()
def m009_revisions(db: Database) -> None:
    _run(
        db,
        """
        create table revisions (
            id text primary key, answer_id text not null, sample_id text references samples (id),
            number integer not null, principle_id text not null references principles (id),
            critique text, text text, edit_share real, stop text
                check (stop in ('unchanged', 'empty', 'cut', 'unanswered')),
            critique_call text not null, revision_call text, created_at real not null
        ) strict""",
        "create index revisions_of_answer on revisions (answer_id, number)",
        # `judges` holds a JSON list of ids.
        """
        create table panel_judgements (
            id text primary key, comparison_id text not null references comparisons (id),
            principle_id text not null references principles (id), judges text not null,
            state text not null, p real, decided integer not null, spoke integer not null,
            disagreement real, dissent real, created_at real not null
        ) strict""",
        "create index panel_judgements_by_comparison on panel_judgements (comparison_id)",
    )


@MIGRATIONS()
def m010_pairs(db: Database) -> None:
    _run(
        db,
        """
        create table pairs (
            id text primary key, round_id text not null references rounds (id),
            comparison_id text not null references comparisons (id),
            chosen_sample text not null references samples (id),
            rejected_sample text not null references samples (id),
            source text not null
                check (source in ('judge', 'verifier', 'construction', 'human')),
            p real not null, decisions text not null, vetoed_by text, created_at real not null
        ) strict""",
        "create index pairs_of_chosen on pairs (chosen_sample)",
        "create index pairs_of_rejected on pairs (rejected_sample)",
        """
        create table pair_rejections (
            round_id text not null references rounds (id),
            comparison_id text not null references comparisons (id),
            reason text not null, detail text,
            primary key (round_id, comparison_id)
        ) strict, without rowid""",
    )


@MIGRATIONS()
def m011_rollouts(db: Database) -> None:
    _run(
        db,
        # `tokens` counts them, `logprob` is their sum by the engine that sampled them.
        """
        create table rollouts (
            id text primary key,
            training_run_id text not null references training_runs (id),
            batch integer not null, draw integer not null,
            prompt_id text not null references prompts (id), position integer not null,
            policy text not null, text text not null, tokens integer not null,
            finish_reason text not null, logprob real not null, reward real, advantage real,
            fate text not null check (fate in ('used', 'no_spread', 'unrewarded')),
            created_at real not null
        ) strict""",
        "create index rollouts_by_batch on rollouts (training_run_id, batch)",
        "create index rollouts_by_prompt on rollouts (prompt_id)",
        # A watched term is no part of the reward.
        """
        create table rollout_terms (
            rollout_id text not null references rollouts (id), name text not null,
            watched integer not null check (watched in (0, 1)),
            value real, state text not null
                check (state in ('verified', 'refuted', 'unparsed', 'timeout',
                                 'not_applicable', 'error')),
            reason text not null,
            primary key (rollout_id, name)
        ) strict, without rowid""",
    )


@MIGRATIONS()
def m012_jails(db: Database) -> None:
    _run(
        db,
        # The kind of jail that model-written code ran in.
        "alter table verdicts add column jail text",
        "alter table rollout_terms add column jail text",
    )


@MIGRATIONS()
def m013_settled_judgements(db: Database) -> None:
    _run(
        db,
        # Both orders taken together by the rule of `judges/compare.py`; a lost order is an error.
        # Graded answers have no order: `scores` has them one by one.
        """
        create view settled_judgements as
        with both as (
            select comparison_id, judge_id, principle_id, count(*) as orders,
                max(state = 'error') as error, max(state = 'refused') as refused,
                max(state = 'unparsed') as unparsed, max(coalesce(outside, 0.0)) as outside,
                max(case "order" when 'forward' then value end) as one,
                1.0 - max(case "order" when 'backward' then value end) as other
            from judgements group by comparison_id, judge_id, principle_id
        ), settled as (
            select comparison_id, judge_id, principle_id, (one + other) / 2 as mean,
                case
                    when error or orders < 2 then 'error'
                    when refused then 'refused'
                    when unparsed then 'unparsed'
                    when outside > 0.2 then 'abstain'
                    when 0.5 in (one, other) then 'tie'
                    when (one > 0.5) != (other > 0.5) then 'flip'
                    when (one + other) / 2 > 0.5 then 'win'
                    else 'loss'
                end as state
            from both
        )
        select comparison_id, judge_id, principle_id, state,
            case when state in ('win', 'loss', 'tie', 'flip') then mean end as p
        from settled""",
    )


@MIGRATIONS()
def m014_injected(db: Database) -> None:
    _run(
        db,
        # Orders for the judge were put into one of the answers: nobody is to label such a thing.
        "alter table comparisons add column"
        " injected integer not null default 0 check (injected in (0, 1))",
    )


@MIGRATIONS()
def m015_reward_scores(db: Database) -> None:
    _run(
        db,
        # `model` is the SHA-256 of a reward model's adapter.
        """
        create table reward_scores (
            id text primary key, model text not null,
            sample_id text not null references samples (id),
            score real not null, created_at real not null
        ) strict""",
        "create index reward_scores_of_sample on reward_scores (sample_id)",
    )


@MIGRATIONS()
def m016_runs(db: Database) -> None:
    _run(
        db,
        # `token` counts who has worked on it: whoever holds an older one writes nothing any more.
        # `beat_at` is when the owner was heard of last; `served_at` when its last turn came.
        """
        create table runs (
            id text primary key, name text not null, request text not null,
            state text not null check (state in
                ('queued', 'running', 'paused', 'stopped', 'done', 'failed', 'cancelled')),
            wish text check (wish in ('pause', 'cancel')),
            priority integer not null, note text,
            owner text, token integer not null default 0, beat_at real,
            crashes integer not null default 0, not_before real not null default 0,
            served_at real not null default 0, created_at real not null, ended_at real
        ) strict""",
        # `begun` is the round as it was when it began. It is a row of `rounds` once it has a stage.
        """
        create table turns (
            run_id text not null references runs (id), number integer not null,
            round_id text not null, begun text not null,
            promoted integer check (promoted in (0, 1)), began_at real not null, ended_at real,
            primary key (run_id, number)
        ) strict, without rowid""",
        "create index calls_of_round on calls (round_id, state)",
    )


@MIGRATIONS()
def m017_search(db: Database) -> None:
    # They hold no text of their own: a row here is found in its table by its rowid.
    for table, column in (("prompts", "question"), ("samples", "text")):
        index = f"{table}_text"
        _run(
            db,
            f"create virtual table {index} using"
            f" fts5 ({column}, content='{table}', content_rowid='rowid')",
            f"insert into {index} ({index}) values ('rebuild')",
            f"create trigger {index}_added after insert on {table} begin"
            f" insert into {index} (rowid, {column}) values (new.rowid, new.{column}); end",
            f"create trigger {index}_removed after delete on {table} begin"
            f" insert into {index} ({index}, rowid, {column})"
            f" values ('delete', old.rowid, old.{column}); end",
        )


@MIGRATIONS()
def m018_events(db: Database) -> None:
    _run(
        db,
        "create table events (seq integer primary key, kind text not null, subject text not null,"
        " what text not null, at real not null) strict",
    )
    now = "round((julianday('now') - 2440587.5) * 86400, 3)"
    for kind, table, subject, what, when in (
        ("run", "runs", "new.id", "new.state", "insert"),
        ("run", "runs", "new.id", "new.state", "update of state"),
        ("round", "rounds", "new.id", "new.state", "insert"),
        ("round", "rounds", "new.id", "new.state", "update of state"),
        ("stage", "stages", "new.round_id", "new.name || ' ' || new.state", "insert"),
        ("stage", "stages", "new.round_id", "new.name || ' ' || new.state", "update of state"),
        ("checkpoint", "checkpoints", "new.id", "'trained'", "insert"),
        ("promotion", "promotions", "new.checkpoint_id", "new.decision", "insert"),
        ("alias", "alias_moves", "coalesce(new.checkpoint_id, 'base')", "new.name", "insert"),
    ):
        changed = " when new.state <> old.state" if when.startswith("update") else ""
        _run(
            db,
            f"create trigger {table}_{when.split()[0]}_told after {when} on {table}{changed} begin"
            " insert into events (kind, subject, what, at)"
            f" values ('{kind}', {subject}, {what}, {now}); end",
        )


@MIGRATIONS()
def m019_replies(db: Database) -> None:
    _run(
        db,
        # What a request with an idempotency key was answered; `request` is its SHA-256.
        """
        create table replies (
            key text primary key, request text not null, status integer not null,
            body text not null, created_at real not null
        ) strict""",
    )


@MIGRATIONS()
def m020_tokens(db: Database) -> None:
    _run(
        db,
        # `digest` is a token's SHA-256. `who` is a token's name and id, or who asked without one.
        """
        create table tokens (
            id text primary key, digest text not null unique, name text not null,
            role text not null check (role in ('read', 'label', 'run', 'admin')),
            created_at real not null, revoked_at real
        ) strict""",
        "create table audit (seq integer primary key, who text not null, what text not null,"
        " at real not null) strict",
    )


@MIGRATIONS()
def m021_exchanges(db: Database) -> None:
    _run(
        db,
        """
        create table exchanges (
            id text primary key, name text not null, checkpoint_id text not null,
            arm text not null check (arm in ('direct', 'canary', 'shadow')),
            caller text not null, token_id text, status integer not null,
            first_s real, seconds real not null,
            prompt_tokens integer not null, completion_tokens integer not null,
            request text, answer text, beside text, at real not null
        ) strict""",
        "create index exchanges_of_checkpoint on exchanges (checkpoint_id, at)",
        "create index exchanges_of_token on exchanges (token_id, at)",
        "create index exchanges_by_time on exchanges (at)",
        """
        create table feedback (
            exchange_id text not null references exchanges (id), who text not null,
            thumb text check (thumb in ('up', 'down')), over_id text references exchanges (id),
            comment text not null, at real not null, primary key (exchange_id, who)
        ) strict, without rowid""",
        """
        create table trials (
            seq integer primary key, checkpoint_id text not null references checkpoints (id),
            kind text not null check (kind in ('canary', 'shadow', 'compare')),
            share real not null check (share > 0 and share <= 1),
            started_at real not null, ended_at real, why text
        ) strict""",
        # There is one at a time.
        "create unique index trial_that_runs on trials (ended_at is null) where ended_at is null",
        # SQLite's own procedure for a check that lets more in (lang_altertable.html, section 7):
        # what is stored stays as it is.
        "pragma writable_schema = on",
        "update sqlite_schema set sql = replace(sql, '''gold'')', '''gold'', ''traffic'')')"
        " where type = 'table' and name = 'comparisons'",
        "pragma writable_schema = reset",
        "alter table tokens add column requests_per_minute integer",
        "alter table tokens add column tokens_per_day integer",
    )


@MIGRATIONS()
def m022_schedules(db: Database) -> None:
    _run(db, "alter table runs add column due_at real not null default 0")


@MIGRATIONS()
def m023_pairs_of_exchanges(db: Database) -> None:
    _run(db, "create index exchanges_beside on exchanges (beside) where beside is not null")


def _run(db: Database, *statements: str) -> None:
    for statement in statements:
        db.execute(statement)
