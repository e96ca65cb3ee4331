"""An MCP client that others wrote, against `llctl mcp`: the Python package `mcp`. Arguments are the program and the mount."""

import asyncio
import importlib.metadata
import os
import pathlib
import shutil
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

TOOLS = {"checkpoint", "list", "show", "diff", "revert", "undo", "redo", "run_guarded"}


def server(llctl, repo):
    # Clients hand on little of their environment; that of this test is not where llctl looks by itself.
    return StdioServerParameters(command=llctl, args=["-C", repo, "mcp"], env=dict(os.environ))


def data(result):
    """The structured part of an answer, which two versions of the package name in two ways."""
    assert not getattr(result, "isError", getattr(result, "is_error", False)), result
    return getattr(result, "structuredContent", None) or result.structured_content


async def by_the_package(llctl, repo):
    """What the package `mcp` makes of it."""
    file = pathlib.Path(repo, "file")
    async with stdio_client(server(llctl, repo)) as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        assert "checkpoint" in hello.instructions
        tools = (await session.list_tools()).tools
        assert {tool.name for tool in tools} == TOOLS, tools
        taken = data(await session.call_tool("checkpoint", {"name": "good", "message": "all is well"}))
        assert taken["name"] == "good"
        resources = (await session.list_resources()).resources
        assert "llfs://checkpoint/good" in {str(resource.uri) for resource in resources}, resources
        await session.read_resource(resources[-1].uri)
        shutil.rmtree(repo, ignore_errors=True)
        assert not file.exists()
        preview = data(await session.call_tool("revert", {"to": "good"}))
        assert preview["done"] is False and not file.exists()
        done = data(await session.call_tool("revert", {"to": "good", "confirm": True}))
        assert done["done"] is True and file.read_text() == "before\n"
        run = data(await session.call_tool("run_guarded", {"command": "echo after > file; exit 4"}))
        assert run["exit_code"] == 4 and file.read_text() == "before\n"
        wrong = await session.call_tool("revert", {"to": "no-such", "confirm": True})
        assert getattr(wrong, "isError", getattr(wrong, "is_error", False)), wrong
    print("mcp", importlib.metadata.version("mcp"), "ok")


if __name__ == "__main__":
    asyncio.run(by_the_package(*sys.argv[1:]))
