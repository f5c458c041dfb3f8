import pytest

import unet_nas
from unet_nas import DocumentError, InputError, load_architecture, preset
from unet_nas.unet.load import describe_preset, preset_names


def test_a_text_a_file_and_a_preset_load_alike(tmp_path):
    text = "architecture:\n  depth: 3\n"
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert load_architecture(text) == load_architecture(path) == load_architecture(str(path))
    assert load_architecture("preset:unet-2015") == preset("unet-2015")


def test_an_empty_section_is_the_default_network():
    assert load_architecture("architecture: {}\n") == unet_nas.Architecture()


def test_assignments_come_over_the_file_and_are_checked():
    text = "architecture:\n  depth: 3\n  down: max_pool\n"
    found = load_architecture(text, ["depth=2", "down={type: avg_pool}", "norm.type=group"])
    assert (found.depth, found.down.type, found.norm.type) == (2, "avg_pool", "group")
    with pytest.raises(DocumentError, match=r"--set depth=99, architecture\.depth: must be ≤ 8"):
        load_architecture(text, ["depth=99"])


def test_an_unknown_preset_is_named_with_the_nearest():
    with pytest.raises(InputError, match="did you mean preset:phasenet"):
        preset("phasnet")


def test_a_search_space_is_told_so_with_every_domain():
    text = "architecture:\n  depth: {int: [2, 4]}\n  down: [{choice: [max_pool]}, max_pool]\n"
    with pytest.raises(DocumentError) as error:
        load_architecture(text)
    assert str(error.value).splitlines() == [
        "<text>:2, architecture.depth: must be one value here: a domain makes the file a search "
        "space, got a domain; fix: choose with --set depth=…",
        "<text>:3, architecture.down[0]: must be one value here: a domain makes the file a search "
        "space, got a domain; fix: choose with --set down[0]=…",
    ]
    assert load_architecture(text, ["depth=2", "down[0]=max_pool"]).depth == 2


def test_every_fault_is_an_item_of_the_error():
    with pytest.raises(DocumentError) as error:
        load_architecture("architecture:\n  depth: 0\n  widht: 3\n")
    assert [fault.path[-1] for fault in error.value.faults] == ["depth", "widht"]


def test_a_fault_that_only_lowering_finds_has_its_line():
    text = "architecture:\n  width: 20\n  norm:\n    type: group\n    groups: 8\n"
    with pytest.raises(DocumentError) as error:
        load_architecture(text)
    assert str(error.value).startswith(
        "<text>:5, architecture.norm.groups: must divide the 20 channels normalised"
    )
    assert str(error.value).endswith("got 8; fix: use 5")


def test_every_preset_says_what_it_is():
    for name in preset_names():
        found = describe_preset(name)
        assert found.about, name
        assert found.reference, name


def test_an_architecture_from_python_has_the_same_sentences():
    with pytest.raises(InputError) as caught:
        unet_nas.Architecture(norm="bach", depth=0, widht=3, encoder={"convs": True})
    assert set(str(caught.value).splitlines()) == {
        "encoder.convs: must be an integer, got true",
        "norm: must be one of none, batch, instance, group, layer, or a mapping with the key "
        "'type', got 'bach'; did you mean 'batch'?",
        "depth: must be ≥ 1, got 0",
        "widht: unknown key 'widht'; did you mean 'width'?",
    }
    with pytest.raises(InputError, match="down: must have 2 entries"):
        unet_nas.Architecture(depth=2, down=["max_pool"] * 3)
