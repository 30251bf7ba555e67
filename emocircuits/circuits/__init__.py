"""Circuits: choosing nodes and edges from attribution, and testing the choice by real interventions on
held-out prompts.
"""
