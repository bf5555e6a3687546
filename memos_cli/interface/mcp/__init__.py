"""memos for agents and editors: the Memory API as an MCP server, by the official `mcp` package.

    offers.py    what there is: tools with their schemas, and who may have them
    reach.py     which cubes one client reaches, and by which names
    doing.py     a tool's arguments into calls of the Memory API
    telling.py   results in words for a model
    pages.py     cubes and memories as resources, and a prompt
    server.py    the protocol's questions answered from all these
    stdio.py     over the streams of a process
    streaming.py over HTTP, for clients with keys

The package `mcp` is an extra, so it is imported inside functions, and when a server is started.
"""
