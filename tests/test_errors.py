import pickle

import pytest

from unet_nas.errors import DocumentError, Fault, InputError, SizeError, UnetNasError


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnetNasError, 1), (InputError, 2), (SizeError, 2), (DocumentError, 2)],
)
def test_exit_codes(error, code):
    assert error.exit_code == code
    assert issubclass(error, UnetNasError)


def test_document_error_survives_pickling():
    fault = Fault(("depth",), "must be ≥ 1", "0", fix="write 1")
    error = pickle.loads(pickle.dumps(DocumentError("u.yaml:1: …", [fault])))
    assert str(error) == "u.yaml:1: …"
    assert error.faults == (fault,)


def test_fault_is_frozen():
    with pytest.raises(AttributeError):
        Fault((), "rule").rule = "other"
