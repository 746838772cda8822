"""PHOTOS TO FACES: one Predictor per system behind one interface (`Network.inference.base.Predictor`)."""
