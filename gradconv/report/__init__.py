"""One page of everything that is stored: claims, atlas and studies, in a single HTML file."""
