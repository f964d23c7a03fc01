"""PPO's critic: a second model that predicts the reward, and what is made of its predictions."""
