"""Centres by hand."""

import numpy as np
import pytest
from directions.direction_world import labelled, statistics

from emocircuits.directions import ESTIMATORS, EstimatorOptions
from emocircuits.directions.difference_of_means import centred_means
from emocircuits.errors import UserError


def fit(name, found, **options):
    return ESTIMATORS.get(name).fit(found, EstimatorOptions(**options))


def test_centres_by_hand():
    x, labels = labelled()
    found = statistics(x, labels)
    for label in range(labels.max() + 1):
        own, others = x[labels == label].mean(axis=0), x[labels != label].mean(axis=0)
        np.testing.assert_allclose(centred_means(found, "others")[label], own - others, atol=1e-12)
        np.testing.assert_allclose(centred_means(found, "stories")[label], own - x.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(
            centred_means(found, "emotions")[label], own - found.means.mean(axis=0), atol=1e-12
        )
        np.testing.assert_allclose(fit("one_vs_others", found)[label], own - others, atol=1e-12)
        # neutral text has mean 0 here
        np.testing.assert_allclose(fit("vs_neutral", found)[label], own, atol=1e-12)
    with pytest.raises(UserError, match="needs stories with topics"):
        centred_means(found, "topics")
    with pytest.raises(UserError, match="did you mean 'topics'"):
        EstimatorOptions(centre="topic")
