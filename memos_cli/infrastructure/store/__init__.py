"""MemStore: where packages of memory are kept for others, and how they travel.

A store holds packages: blobs by digest, manifests by digest, and tags that name manifests. One small file per way
there (`folder`, `web`, `registry`, `objects`, `hub`); `layout` is the tree that all but a registry share. Whatever the
way, every byte is hashed here while it streams: a store, a proxy and a library are each believed in nothing.

Knows nothing of what a package holds.
"""
