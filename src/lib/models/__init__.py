"""Models: load and save encoders, the embedded one, fast inference, trimming, deployment.

Every step that runs a model does it through this room: `encoder` makes and loads a classifier (a
stock class of transformers), `classifier` is what they have in common, `inference` gives
probabilities and pooled vectors of many texts. `embedded` is the pretrained encoder that needs no
hub, `vocabulary` makes a model smaller, `temperature` makes it as sure as it is right.
`deployment` writes the model that others take, with ONNX files (`onnx_export`) and a model card
(`card`); `sentiment` and `labelling` are how they use it.
"""

from lib.models.sentiment import SentimentModel

__all__ = ["SentimentModel"]
