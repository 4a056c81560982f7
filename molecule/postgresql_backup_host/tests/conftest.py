pytest_plugins = ["throwaway", "backup_host", "keeper"]
