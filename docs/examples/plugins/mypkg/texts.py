"""Text filters: return True to keep a text, False or (False, reason) to drop it."""

from openwit.pipeline.text.filters import TextContext


def no_memes(text: str, context: TextContext) -> bool:
    """Drop meme captions; the reason is the function's name, no_memes."""
    return "meme" not in text.lower() and "/memes/" not in context.url


class MinWords:
    """Drop texts with fewer words than the recipe says."""

    def __init__(self, words: int = 2) -> None:
        self.words = words

    def __call__(self, text: str, context: TextContext) -> bool | tuple[bool, str]:
        """Give a reason of its own: fewer_than_3_words."""
        return len(text.split()) >= self.words or (False, f"fewer_than_{self.words}_words")
