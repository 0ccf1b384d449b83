"""Serves a web page that segments photos, or writes it as a Hugging Face Space.

python scripts/demo_app.py                            # http://127.0.0.1:7860
python scripts/demo_app.py --checkpoint runs/mine/best checkpoints/yoso-lite0-facade --port 8000
python scripts/demo_app.py --space outputs/space      # app.py, front matter, requirements, package and checkpoint
"""

from pathlib import Path

from transformers_yoso.web_demo.command import main

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    main(checkpoint=ROOT / "checkpoints/yoso-lite0-facade", examples=[ROOT / "assets/facade_demo.jpg"])
