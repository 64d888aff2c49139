from outer.inner import depth
