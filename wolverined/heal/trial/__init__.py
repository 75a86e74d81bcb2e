# SPDX-License-Identifier: MIT
"""One candidate, run behind walls: what it does is observed here, what that means is judged in `verdict`.

Four processes: the role (`process`) holds the stream to heal and nothing else; the `runner` stands in
the sandbox's network and tree but outside of its PID namespace, so that it can probe the candidate and
the candidate can neither see nor signal it; the `cell` is the first process of the PID namespace; the
candidate runs below it. When any of the first three ends, the kernel ends all below.
"""
