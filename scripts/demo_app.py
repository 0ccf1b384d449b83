"""Serves a web page that segments photos, or writes it as a Hugging Face Space. The same as `yoso demo`.

python scripts/demo_app.py                            # http://127.0.0.1:7860
python scripts/demo_app.py --checkpoint runs/mine/best checkpoints/yoso-lite0-facade --port 8000
python scripts/demo_app.py --space outputs/space      # app.py, front matter, requirements, package and checkpoint
"""

from transformers_yoso.web_demo.command import main

if __name__ == "__main__":
    main()
