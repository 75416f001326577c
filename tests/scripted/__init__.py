"""The one fake: an OpenAI-compatible server with vLLM's own routes that answers from a script.

    python -m tests.scripted --port 8000 --delay-ms 20 --right 0.5 --right-after 0.9

A real program behind a real socket, so everything above the network is tested as it is. It takes
vLLM's flags (and ignores most), so it stands in for the engine:
`EngineSettings(command=(sys.executable, "-m", "tests.scripted"))`.
"""
