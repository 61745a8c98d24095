"""Models: load and save encoders, the embedded one, fast inference, trimming, the temperature.

Every step that runs a model does it through this room: `encoder` makes and loads a classifier,
`inference` gives probabilities and pooled vectors of many texts. `classifier` is the model itself,
`embedded` the pretrained encoder that needs no hub, `vocabulary` makes a base model smaller, and
`temperature` makes a classifier as sure as it is right.
"""
