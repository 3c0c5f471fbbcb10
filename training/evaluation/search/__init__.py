"""Write embeddings of whole sets, and find the nearest among them."""
