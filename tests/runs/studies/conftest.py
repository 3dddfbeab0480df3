"""What tests of studies share."""

from support.figures import figure  # noqa: F401, a fixture
