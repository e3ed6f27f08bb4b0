"""Agno's AgentOS as its documentation sets it up: one agent, no tools, its database is Postgres."""

import os

from agno.agent import Agent
from agno.db.postgres import PostgresDb
from agno.models.openai import OpenAIChat
from agno.os import AgentOS

model = OpenAIChat(id="fake", base_url=os.environ["FAKE"] + "/v1", api_key="sk-none")
agent = Agent(
    id="bench", name="bench", db=PostgresDb(db_url=os.environ["DB"]), model=model, telemetry=False
)
app = AgentOS(agents=[agent], telemetry=False).get_app()
