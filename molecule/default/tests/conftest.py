import pytest

pytest_plugins = ["throwaway"]


@pytest.fixture(params=["default-bookworm", "default-trixie"])
def host_of(request, hosts):
    """Return each of the scenario's hosts in turn."""
    return hosts[request.param]
