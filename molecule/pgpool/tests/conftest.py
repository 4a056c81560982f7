pytest_plugins = ["throwaway", "caching"]
