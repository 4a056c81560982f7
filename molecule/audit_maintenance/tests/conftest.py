pytest_plugins = ["throwaway"]
