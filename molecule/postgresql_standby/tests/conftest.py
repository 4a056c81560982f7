pytest_plugins = ["throwaway", "streaming"]
