# A package of its own: one of the same name elsewhere on the host does not come first.
