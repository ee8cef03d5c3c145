"""The agent in every job's pod: fetches inputs, holds the start gate, saves results.

It runs beside the user's code and under the same uid, so it believes no file that the user's
container could have written. Standard library only: its image holds nothing else.
"""
