"""What `lantern demo` needs: a few invented companies, two questions, nodes to start and to kill."""

from importlib import resources

QUESTIONS = (
    "What does Halvorsen Tide Systems build, who leads it, and who is its largest customer?",
    "Who lost a contract or a customer, and because of what?",
)


def documents() -> list[dict[str, str]]:
    """The bundled texts as `{title, text}`; every name and number in them is made up."""
    files = sorted(resources.files(__name__).iterdir(), key=lambda file: file.name)
    return [
        _document(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".md")
    ]


def _document(text: str) -> dict[str, str]:
    title, _, body = text.partition("\n")
    paragraphs = body.strip().split("\n\n")
    return {
        "title": title.removeprefix("# "),
        "text": "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs),
    }
