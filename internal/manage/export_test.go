package manage

// Routes returns every route of the API with its methods.
func (a *API) Routes() map[string][]string {
	routes := map[string][]string{}
	for pattern, methods := range a.table() {
		for method := range methods {
			routes[pattern] = append(routes[pattern], method)
		}
	}
	return routes
}

// OpsRoutes returns the paths of the ops listener that are part of its contract.
func OpsRoutes() []string {
	var paths []string
	for path := range opsTable(nil, nil) {
		paths = append(paths, path)
	}
	return paths
}
