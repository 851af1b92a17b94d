"""The extractor keeps the promises that eegstore's conformance kit tries."""

from __future__ import annotations

import pytest

from eegstore import testing
from eegstore_catch22.catch22 import Catch22


@pytest.mark.parametrize("extractor", [Catch22(), Catch22(catch24=True)], ids=repr)
@pytest.mark.parametrize("check", testing.checks("extractor"), ids=str)
def test_it_conforms(check, extractor):
    check(extractor)
