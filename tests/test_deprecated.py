"""Public names of the version before this one still serve, with a warning."""

import pytest

from keras_vit.checkpoints.errors import CheckpointError
from tests.helpers import once

pytestmark = once  # names are the same on every backend


def test_the_error_of_files_has_its_old_name_too():
    with pytest.warns(DeprecationWarning, match="keras_vit.checkpoints.errors.CheckpointError"):
        from keras_vit.checkpoints.files import CheckpointError as old
    assert old is CheckpointError
