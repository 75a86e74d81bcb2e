# SPDX-License-Identifier: MIT
"""The adviser: the role that asks a model. It holds the key, sees no file, and returns text.

`prompt` builds what is sent, `client` is the one place that sends, `advise` is the job. What the text
says is judged elsewhere: here it is only carried.
"""
