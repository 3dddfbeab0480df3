"""What tests of studies share."""

from figures import figure  # noqa: F401, a fixture
