"""What `aeon demo` remembers and asks: seven weeks between a person and their assistant, invented for aeon.

conversation.jsonl : one turn a line: session, role, text, timestamp (microseconds since the epoch, UTC, increasing)
    and, on most, metadata. Tess moves to Trieste with a dog, a sofa, a bug and a secret; several facts change on the
    way, so that the newest turn has to win.
questions.jsonl : one question a line: question, answer, evidence (0-based lines of conversation.jsonl that hold the
    answer, all within the first five hits of the built-in embedder) and a note on what makes it worth asking.
"""
