pytest_plugins = ["throwaway", "pool"]
