"""The evaluation harness: data sets, protocols, metrics, runs, reports. A client of clipseg_ws's public names."""
