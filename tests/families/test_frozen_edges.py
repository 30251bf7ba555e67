"""With patterns, norm scales and activations held as they are, every edge equals the real intervention: on
every family.
"""

import numpy as np
import pytest
from families.family_world import write_family
from families.frozen_edges import frozen_edges

from emocircuits.models import FAMILIES, load_model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES.names())
def test_a_frozen_intervention_equals_the_edge(family, tmp_path):
    attributed, found = frozen_edges(
        load_model(str(write_family(family, tmp_path)), dtype="float64", checks=False).bridge
    )
    assert found.shape[1] > 40 and np.abs(found).max() > 1e-3
    np.testing.assert_allclose(found, attributed, atol=1e-5 * np.abs(found).max())
