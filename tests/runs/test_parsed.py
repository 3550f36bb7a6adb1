"""What was read of source files is kept by content, and never believed of other content."""

from quantbench.runs import source_hash
from quantbench.runs.mentions import Mentions
from quantbench.runs.parsed import Parsed, key

SEEN = Mentions(frozenset({"a.b", "a"}), frozenset({"nearest"}))


def test_an_entry_is_read_again_by_the_next_process(tmp_path):
    first = Parsed.read(tmp_path / "sources.json")
    first.put("k", "d", SEEN)
    first.keep()
    again = Parsed.read(tmp_path / "sources.json")
    assert again.get("k") == ("d", SEEN)
    assert again.get("other") is None


def test_keys_depend_on_code_module_and_kind():
    keys = {
        key(b"import a", "m", is_package=False),
        key(b"import a", "m", is_package=True),
        key(b"import a", "n", is_package=False),
        key(b"import b", "m", is_package=False),
    }
    assert len(keys) == 4


def test_damaged_files_and_entries_are_read_anew(tmp_path):
    path = tmp_path / "sources.json"
    for text in ("", "[1]", "{", '{"k": 3}', '{"k": ["d"]}', '{"k": ["d", 1, 2]}'):
        path.write_text(text)
        assert Parsed.read(path).get("k") is None


def test_hashes_are_the_same_from_kept_entries(root):
    module = ["quantbench.methods.nearest"]
    source_hash.forget()
    cold = source_hash.source_hashes(module)
    kept = (root.parent / "cache" / "sources.json").stat().st_mtime_ns
    source_hash.forget()
    assert source_hash.source_hashes(module) == cold
    assert (root.parent / "cache" / "sources.json").stat().st_mtime_ns == kept
    source_hash.forget()  # the next test has another cache
