"""An agent that others wrote, against `llctl mcp`: smolagents, whose model is a script. Arguments are the program and the mount."""

import importlib.metadata
import os
import pathlib
import sys

from mcp import StdioServerParameters
from smolagents import ChatMessage, MCPClient, Model, ToolCallingAgent
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole


def server(llctl, repo):
    return StdioServerParameters(command=llctl, args=["-C", repo, "mcp"], env=dict(os.environ))


class Script(Model):
    """A model that has made up its mind."""

    def __init__(self, calls):
        super().__init__(model_id="script")
        self.calls = iter(calls)
        self.heard = ""

    def generate(self, messages, **_):
        self.heard = str(messages)
        name, arguments = next(self.calls)
        call = ChatMessageToolCall(
            function=ChatMessageToolCallFunction(name=name, arguments=arguments), id=f"call-{name}", type="function"
        )
        return ChatMessage(role=MessageRole.ASSISTANT, content="", tool_calls=[call])


def by_an_agent(llctl, repo):
    """What an agent of smolagents does with it: it destroys everything, and takes it back."""
    file = pathlib.Path(repo, "file")
    model = Script(
        [
            ("checkpoint", {"name": "by-agent"}),
            ("run_guarded", {"command": "rm -rf ./* && echo gone"}),
            ("diff", {"from": "by-agent"}),
            ("revert", {"to": "by-agent"}),
            ("revert", {"to": "by-agent", "confirm": True}),
            ("final_answer", {"answer": "it is back"}),
        ]
    )
    with MCPClient(server(llctl, repo), structured_output=False) as tools:
        agent = ToolCallingAgent(tools=tools, model=model, max_steps=8, verbosity_level=0)
        answer = agent.run("delete everything, and bring it back")
    assert answer == "it is back", answer
    assert "Reverted to by-agent" in model.heard, model.heard[-2000:]
    assert file.read_text() == "before\n"
    print("smolagents", importlib.metadata.version("smolagents"), "ok")


if __name__ == "__main__":
    by_an_agent(*sys.argv[1:])
