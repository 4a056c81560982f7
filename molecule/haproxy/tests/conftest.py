pytest_plugins = ["throwaway", "members", "election", "steering"]
