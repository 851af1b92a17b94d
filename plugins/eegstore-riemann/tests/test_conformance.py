"""Both extractors keep the promises that eegstore's conformance kit tries."""

from __future__ import annotations

import pytest

from eegstore import testing
from eegstore_riemann.covariance import RiemannCovariance
from eegstore_riemann.tangent import RiemannTangent

EXTRACTORS = [RiemannCovariance(), RiemannTangent(), RiemannTangent("scm", "logeuclid")]


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=repr)
@pytest.mark.parametrize("check", testing.checks("extractor"), ids=str)
def test_it_conforms(check, extractor):
    check(extractor)
