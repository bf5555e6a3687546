"""The Memory API over HTTP: what `memos serve` runs. Only here are starlette, uvicorn and pydantic imported.

starting.py   the process: address, signals, what it serves
serving.py    the application: from a request to a call of the Memory API, and back
gate.py       who comes in, how often and how many at a time
asked.py      what requests may say
routes.py     which request is which call
chat.py       the same as chat completions, as OpenAI's clients ask for them
outcome.py    errors as answers
measures.py   counts and times for Prometheus
description.py  all of it as OpenAPI
"""
