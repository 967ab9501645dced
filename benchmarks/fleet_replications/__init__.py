"""Published results about fleets, beside what comes out here."""
