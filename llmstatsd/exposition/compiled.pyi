from llmstatsd.exposition.text import Renderers

RENDERERS: Renderers
