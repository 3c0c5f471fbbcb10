"""Text that was decoded with the wrong charset somewhere on its way, put right by ftfy where a user asks for it."""

from collections.abc import Callable

from schemas.errors import UserError


def text_fixer() -> Callable[[str], str]:
    """ftfy's `fix_text`; its quotes and ligatures are left as they are, since those are no damage.

    Raises:
        UserError: ftfy is not installed.
    """
    try:
        import ftfy
    except ImportError:
        raise UserError("candidates.ftfy needs the package ftfy: pip install 'openwit[ftfy]'") from None
    config = ftfy.TextFixerConfig(uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False)

    def fix(text: str) -> str:
        fixed: str = ftfy.fix_text(text, config)
        return fixed

    return fix
