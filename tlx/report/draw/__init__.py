"""Drawing: panels, their look, and the forms that several questions share."""
