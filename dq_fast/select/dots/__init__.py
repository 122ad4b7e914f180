"""Raw dot products as similarities, exact in float64."""
