pytest_plugins = ["throwaway", "members", "election", "drills"]
