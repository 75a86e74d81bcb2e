# SPDX-License-Identifier: MIT
"""A secret that only a settings file of the app holds, which the app loads by itself and prints as it dies."""

from __future__ import annotations

from support.healing import NODE_SHOP, App, asked, ending, mend

FILED = "blue-heron-27-window"
LOADS = App(
    files={
        **NODE_SHOP.files,
        ".env": f"# loaded by the app itself\nSHOP_PASSPHRASE={FILED} # ours\n",
        "server.js": NODE_SHOP.files["server.js"].replace(
            'const prices = require("./prices");',
            """const prices = require("./prices");
const [, phrase] = /SHOP_PASSPHRASE=(\\S+)/.exec(require("node:fs").readFileSync(".env", "utf8"));
if (phrase.length !== 20) throw new Error("no passphrase");
console.log("opening the till with", phrase);
process.on("exit", () => console.error("closing", Buffer.from(phrase).toString("base64")));""",
        ),
    },
    command=NODE_SHOP.command,
    trigger=NODE_SHOP.trigger,
    path=NODE_SHOP.path,
    search=NODE_SHOP.search,
    right=NODE_SHOP.right,
    other=NODE_SHOP.other,
)


def test_a_secret_of_a_settings_file_reaches_no_model_and_the_app_is_healed() -> None:
    """It is hidden in what the model sees; the candidate boots with a fake, and the repair is proven."""
    with asked(LOADS, mend(LOADS, LOADS.right)) as (running, server):
        assert running.get(LOADS.trigger).crashed
        end = ending(running)
        prompts = "\n".join(request.prompt for request in server.wait_for(1))
        assert "opening the till" in prompts or "item.tag.cents" in prompts
        assert FILED not in prompts
        assert "Ymx1ZS1oZXJvbi0yNy13aW5kb3" not in prompts
        assert end["name"] == "incident.closed", end
        assert FILED in (running.app / ".env").read_text()
        assert FILED not in running.ctl("--json", "repairs").out
