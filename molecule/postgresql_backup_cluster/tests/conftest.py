pytest_plugins = ["throwaway", "members", "election", "archive"]
