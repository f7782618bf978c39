"""phaseinv"""
