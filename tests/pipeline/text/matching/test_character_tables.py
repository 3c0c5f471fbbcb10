import numpy as np
import pytest

from openwit.pipeline.text.matching import character_tables as module


@pytest.fixture
def unknown(monkeypatch):
    """A process that has no tables yet."""
    module.character_tables()
    return lambda: monkeypatch.setattr(module, "_known", None)


def test_saved_tables_are_mapped_and_equal(tmp_path, unknown):
    path, made = tmp_path / "characters", module.character_tables()
    module.save_character_tables(path)
    unknown()
    assert module.known_character_tables() is None
    assert module.load_character_tables(path)
    read = module.character_tables()
    assert read is not made
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(made, read, strict=True))
    # The functions that take them would be compiled again for other types.
    assert [array.dtype for array in made] == [array.dtype for array in read]
    assert not any(array.flags.writeable for array in (*made, *read))


def test_tables_of_another_unicode_and_damaged_ones_are_not_taken(tmp_path, unknown, monkeypatch):
    path = tmp_path / "characters"
    module.save_character_tables(path)
    unknown()
    with monkeypatch.context() as patch:
        patch.setattr(module.unicodedata, "unidata_version", "1.0")
        assert not module.load_character_tables(path)
    path.write_bytes(path.read_bytes()[:-8])
    assert not module.load_character_tables(path)
    assert not module.load_character_tables(tmp_path / "missing")
    assert module.known_character_tables() is None
