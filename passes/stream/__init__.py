"""From a whole utterance to one chunk at a time: facts about values, one rule an op, and the step graph they build."""
