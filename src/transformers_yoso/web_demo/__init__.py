"""A web page that segments photos (Gradio), and its export as a Hugging Face Space.

`results` is what the page shows, without Gradio; `app` is the page; `command` starts it.
"""
